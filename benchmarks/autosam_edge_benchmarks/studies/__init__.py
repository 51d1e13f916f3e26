"""Studies that choose one setting once; they measure quality and not speed."""
