"""A DICOM node: receives CT series over the network, segments them and sends the results back."""
