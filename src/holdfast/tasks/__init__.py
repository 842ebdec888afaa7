"""Tasks: admitted, queued for what they claim, controlled, asked about and, in the end, forgotten."""
