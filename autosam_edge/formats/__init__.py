"""Research formats: NIfTI, NRRD, label images and zip archives."""
