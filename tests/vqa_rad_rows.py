"""A row of VQA-RAD as released."""


def vqa_rad_row(qid: object, image: str, question: str, answer: object, **more: object) -> dict:
    """A row with the official fields."""
    return {
        "qid": qid,
        "phrase_type": "freeform",
        "qid_linked_id": f"linked-{qid}",
        "image_case_url": "https://medpix.nlm.nih.gov/case?id=0",
        "image_name": image,
        "image_organ": "CHEST",
        "evaluation": "evaluated",
        "question": question,
        "question_rephrase": "NULL",
        "question_relation": "strict agreement",
        "question_frame": "NULL",
        "question_type": "PRES",
        "answer": answer,
        "answer_type": "CLOSED",
        **more,
    }
