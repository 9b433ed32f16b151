"""The papers' tables as rows of overrides of the papers' configurations."""
