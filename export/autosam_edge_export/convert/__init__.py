"""From the student in torch to the formats of other runtimes."""
