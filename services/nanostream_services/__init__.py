"""The processes of nanostream and its command line; services/README.md draws how they work."""
