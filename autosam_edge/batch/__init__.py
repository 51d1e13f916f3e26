"""Many scans in one command: an index of the headers, one job for each scan, one table and one page."""
