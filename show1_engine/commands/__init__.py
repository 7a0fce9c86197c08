"""The command line, a file per command; `show1_engine.__main__` joins them."""
