// What only the report of runs has.
