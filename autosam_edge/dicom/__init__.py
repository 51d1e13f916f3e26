"""DICOM in and out: a CT series becomes a volume, and labels become a DICOM SEG."""
