"""Writes files that are either whole or absent, and keeps data in files instead of memory."""
