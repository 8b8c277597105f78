"""The command line: words in, words out. It decides nothing; every command calls one workflow."""
