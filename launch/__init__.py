"""Commands of a checkout: flags in, library functions called."""
