"""The same scan by other tools, each in a process of its own (``autosam-edge bench peers``)."""
