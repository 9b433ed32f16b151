"""One module per corpus: its raw layout to the parts of a data set."""
