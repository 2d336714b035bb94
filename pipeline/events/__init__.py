"""What a run says: the kinds of event, their fields, findings, and events in a file."""
