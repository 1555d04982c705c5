"""WebDataset archives of video: egocentric recordings by the thousand in tar files."""
