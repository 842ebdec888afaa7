"""The event feed: reading it, following it, fanning it out and sending it on. Who writes it: tasks/tell.py."""
