"""Pure functions of rows and arrays: metrics, standard errors, confidence intervals, paired tests, ranks."""
