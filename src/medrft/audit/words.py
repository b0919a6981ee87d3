"""Word lists for probes: pairs of opposites, and sets of words for one thing. Both fit the same place in a sentence.

A test checks them against the clinical lexicon: a pair of `OPPOSITES` differs in its own facet and in no other, and the
members of a set in `SYNONYMS` or `BRITISH` mean the same. Abbreviations are not checked: what they stand for is a fact.
"""

from __future__ import annotations

Pairs = tuple[tuple[str, str], ...]

OPPOSITES: dict[str, Pairs] = {
    "side": (("left", "right"),),
    "position": (
        *(("upper", "lower"), ("superior", "inferior"), ("anterior", "posterior"), ("proximal", "distal")),
        *(("medial", "lateral"), ("apical", "basal"), ("central", "peripheral"), ("superficial", "deep")),
        *(("above", "below"), ("ventral", "dorsal")),
    ),
    "size": (("small", "large"), ("tiny", "huge"), ("small", "big"), ("thickened", "thin")),
    "severity": (("mild", "severe"), ("minimal", "severe"), ("acute", "chronic"), ("slight", "severe")),
    "density": (
        *(("hyperintense", "hypointense"), ("hyperdense", "hypodense"), ("hyperechoic", "hypoechoic")),
        *(("hyperattenuating", "hypoattenuating"), ("bright", "dark"), ("high signal", "low signal")),
        *(("homogeneous", "heterogeneous"), ("radiolucent", "radiopaque"), ("high density", "low density")),
    ),
    "change": (
        *(("increased", "decreased"), ("increasing", "decreasing"), ("improved", "worsened")),
        *(("improving", "worsening"), ("unchanged", "worsened"), ("stable", "progressive"), ("growing", "shrinking")),
    ),
    "modality": (
        *(("CT", "MRI"), ("CT scan", "MRI scan"), ("X-ray", "ultrasound"), ("radiograph", "MRI"), ("MR", "CT")),
        *(("T1", "T2"), ("computed tomography", "magnetic resonance imaging"), ("with contrast", "without contrast")),
    ),
    "plane": (
        *(("axial", "coronal"), ("sagittal", "coronal"), ("transverse", "sagittal"), ("frontal view", "lateral view")),
        *(("PA", "AP"), ("supine", "prone"), ("upright", "supine"), ("frontal plane", "sagittal plane")),
    ),
    "anatomy": (
        *(("liver", "spleen"), ("lung", "kidney"), ("lungs", "kidneys"), ("heart", "liver"), ("chest", "abdomen")),
        *(("brain", "spinal cord"), ("frontal lobe", "occipital lobe"), ("parietal lobe", "temporal lobe")),
        *(("cerebellum", "thalamus"), ("femur", "tibia"), ("humerus", "radius"), ("gallbladder", "pancreas")),
        *(
            ("trachea", "esophagus"),
            ("stomach", "colon"),
            ("bladder", "uterus"),
            ("rib", "clavicle"),
            ("head", "chest"),
        ),
        *(("thorax", "pelvis"), ("belly", "chest"), ("ribs", "clavicles"), ("aorta", "trachea")),
    ),
    "category": (
        *(("benign", "malignant"), ("normal", "abnormal"), ("cystic", "solid"), ("focal", "diffuse")),
        *(
            ("complete", "partial"),
            ("symmetric", "asymmetric"),
            ("well-defined", "ill-defined"),
            ("viral", "bacterial"),
        ),
        *(("patent", "occluded"), ("displaced", "nondisplaced"), ("primary", "metastatic")),
    ),
}
"""Facet -> pairs that can replace each other; polarity, quantity and lengths have rules of their own."""

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("cardiomegaly", "enlarged heart", "enlarged cardiac silhouette"),
    ("hepatomegaly", "enlarged liver"),
    ("splenomegaly", "enlarged spleen"),
    ("pneumothorax", "collapsed lung"),
    ("pleural effusion", "pleural fluid"),
    ("kidney stone", "renal calculus", "renal stone"),
    ("gallstones", "cholelithiasis"),
    ("tumor", "neoplasm"),
    ("infarct", "infarction"),
    ("hemorrhage", "bleeding"),
    ("brain bleed", "intracerebral hemorrhage"),
    ("subdural hematoma", "subdural hemorrhage"),
    ("ascites", "abdominal fluid"),
    ("hydrocephalus", "dilated ventricles"),
    ("chest", "thorax"),
    ("abdomen", "belly"),
    ("X-ray", "radiograph"),
    ("malignant", "cancerous"),
    ("axial", "transverse"),
    ("large", "big"),
    ("anterior", "ventral"),
    ("posterior", "dorsal"),
    ("normal", "unremarkable"),
    ("upper", "superior"),
    ("lower", "inferior"),
    ("multiple", "numerous"),
    ("single", "solitary"),
    ("diffuse", "widespread"),
    ("lymphadenopathy", "enlarged lymph nodes"),
    ("unchanged", "stable"),
)
"""Sets of words for one thing that fit the same place in a sentence."""

ABBREVIATIONS: Pairs = (
    ("computed tomography", "CT"),
    ("magnetic resonance imaging", "MRI"),
    ("right lower lobe", "RLL"),
    ("left lower lobe", "LLL"),
    ("right upper lobe", "RUL"),
    ("left upper lobe", "LUL"),
    ("right middle lobe", "RML"),
    ("chest X-ray", "CXR"),
    ("inferior vena cava", "IVC"),
    ("superior vena cava", "SVC"),
    ("ultrasound", "US"),
    ("anteroposterior", "AP"),
    ("posteroanterior", "PA"),
    ("endotracheal tube", "ETT"),
    ("cerebrospinal fluid", "CSF"),
)

BRITISH: Pairs = (
    *(("edema", "oedema"), ("tumor", "tumour"), ("hemorrhage", "haemorrhage"), ("hematoma", "haematoma")),
    *(("esophagus", "oesophagus"), ("gray", "grey"), ("ischemic", "ischaemic"), ("ischemia", "ischaemia")),
    *(("center", "centre"), ("localized", "localised"), ("pediatric", "paediatric"), ("cecum", "caecum")),
    *(("hemothorax", "haemothorax"), ("hyperemia", "hyperaemia"), ("tumors", "tumours"), ("anemia", "anaemia")),
)

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

COUNTED = ("two", "three", "four", "five", "six", "multiple", "several", "many", "numerous")
"""Words that already say there are several, so that the plural after them adds nothing."""
