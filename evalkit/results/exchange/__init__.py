"""Results of other tools as run folders, and run folders in other tools' formats. Files of other tools are hostile input."""
