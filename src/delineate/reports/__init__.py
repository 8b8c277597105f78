"""Figures and pages from numbers and arrays; no torch, no training."""

from delineate.reports.agreement import SizeUnit, size_unit
from delineate.reports.curves import Figure, History, learning_curves
from delineate.reports.evaluation_page import evaluation_html, render_evaluation
from delineate.reports.evaluation_pdf import render_evaluation_pdf
from delineate.reports.overlays import SOFT_TISSUE_WINDOW, Overlay, PictureSettings, picture_case
from delineate.reports.pages import render_report, report_html
from delineate.reports.plan_words import describe_plan, tabulate_plan
from delineate.reports.report_data import Evaluation, Fact, FailedCase, Fold, ReportData
from delineate.reports.selection import Choice, Role, choose_cases
from delineate.reports.training_picture import training_picture

__all__ = [
    "SOFT_TISSUE_WINDOW",
    "Choice",
    "Evaluation",
    "Fact",
    "FailedCase",
    "Figure",
    "Fold",
    "History",
    "Overlay",
    "PictureSettings",
    "ReportData",
    "Role",
    "SizeUnit",
    "choose_cases",
    "describe_plan",
    "evaluation_html",
    "learning_curves",
    "picture_case",
    "render_evaluation",
    "render_evaluation_pdf",
    "render_report",
    "report_html",
    "size_unit",
    "tabulate_plan",
    "training_picture",
]
