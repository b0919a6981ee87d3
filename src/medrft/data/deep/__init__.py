"""Pictures that are more than 8-bit files: DICOM, volumes and series, windowed to what a model can see."""
