"""Scores and pictures of a run as tables, figures and one HTML page."""
