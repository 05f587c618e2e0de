"""Does every reader of files refuse whatever stands in them with a sentence? Random files for each, and what became of them.

    python -m bench.fuzz                                    # 20,000 files for each reader
    python -m bench.fuzz --inputs 2000 config run.json      # some readers

Files are random bytes, valid files with bytes changed, cut and moved, and valid JSON with anything at any place. A reader may
accept a file or raise `evalkit.errors.EvalkitError`; whatever else happens is printed, with the number of the input that made it,
and the exit code is 1. Readers run in a child process, which is started again when a file ends it.
"""
