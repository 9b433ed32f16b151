"""Configurations, one file a paper."""
