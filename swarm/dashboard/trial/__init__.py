"""Parts of what is shown of one trial: the files that it left, the note that somebody wrote on it."""
