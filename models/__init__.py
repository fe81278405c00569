"""The models that ship, a folder each. Installed, this is the package `deepisp_models`."""
