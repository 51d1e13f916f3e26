"""What a person looks at: the preview, the montage and the tables of organ statistics."""
