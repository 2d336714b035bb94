"""Files that are whole or not there, and files in place of memory."""
