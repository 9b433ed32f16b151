"""Corpora to records, and records to batches; imports jaxau, never the other way round."""
