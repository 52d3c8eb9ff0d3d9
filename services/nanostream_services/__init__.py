"""The processes of nanostream and its command line; docs/architecture.md draws them."""
