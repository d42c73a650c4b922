"""A laboratory without noise: recorded candidates, on which policies are compared in seconds.

The tables are made by ``scripts/record_tables.py`` on a real machine; what is decided on them must
then hold in a live run.
"""
