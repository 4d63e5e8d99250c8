"""What outlives a request: one SQLite file, written by one thread.

`database` owns the file; each component (`responses` is one) brings its tables and speaks SQL to it.
"""
