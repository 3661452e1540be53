"""The clinic's data: enquiries with the department that takes them."""
