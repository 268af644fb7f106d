"""What people look at: the report of a run and the board of all runs. Reads run folders, writes pages."""
