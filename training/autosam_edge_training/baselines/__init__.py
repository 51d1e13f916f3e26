"""Methods of others that the paper compares with, reached through their own libraries."""
