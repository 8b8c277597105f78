"""Fingerprint, rules, plan, budget. Knows no torch and no disk."""
