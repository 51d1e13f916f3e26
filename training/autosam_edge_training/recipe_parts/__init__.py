"""Parts that the training recipes share."""
