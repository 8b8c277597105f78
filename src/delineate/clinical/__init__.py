"""The release: from a draft that a person approved to the objects that hospitals exchange. Knows no torch, no HTTP."""
