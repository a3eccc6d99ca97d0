"""The science that `batuta demo` plays: see README.md next to this file."""
