"""The report: one self-contained HTML page for a run, and one for a curriculum."""

from modalign.evaluation.report.curriculum_report import write_curriculum_report
from modalign.evaluation.report.run_report import write_run_report

__all__ = ["write_curriculum_report", "write_run_report"]
