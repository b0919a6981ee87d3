"""DICOM files, NIfTI volumes, series and 16-bit pictures, windowed to the 8-bit PNG that a model can see."""
