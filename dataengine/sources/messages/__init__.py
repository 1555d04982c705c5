"""Messages of any recorder, taken apart: schemas, numbers, pictures, transforms, and the episode they make."""
