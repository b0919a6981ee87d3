"""Small DICOM files written for tests."""

from pathlib import Path

import numpy as np

SECRETS = ("DOE^SECRET", "ID-SECRET", "19700101", "Hospital SECRET", "Dr SECRET", "ACC-SECRET", "SECRET study")


def write_dicom(path: Path, stored: np.ndarray, **facts: object) -> Path:
    """A DICOM file with these stored values (frames x rows x columns, or rows x columns) and header elements."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["test"])
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Modality = "CT"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = stored.tobytes()
    for keyword, value in facts.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def secrets() -> dict[str, object]:
    """Header elements that name a patient; each holds one of `SECRETS`."""
    words = ("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "ReferringPhysicianName")
    return dict(zip((*words, "AccessionNumber", "StudyDescription"), SECRETS, strict=True))
