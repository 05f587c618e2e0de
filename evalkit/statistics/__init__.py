"""Pure functions of rows and arrays: metrics, standard errors, intervals, paired tests, ranks."""
