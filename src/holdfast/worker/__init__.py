"""The worker: it takes tasks that are due, drives them, and keeps its lease while it does."""
