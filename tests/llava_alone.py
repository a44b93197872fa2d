"""Asks exported models with transformers alone; nothing of this project is imported.

python llava_alone.py QUESTIONS.json FOLDER...: writes FOLDER/answers.json and FOLDER/logits.pt (those of each
question's first answer token).
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

questions = json.loads(Path(sys.argv[1]).read_text())
for folder in sys.argv[2:]:
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    chats = [
        [{"role": "user", "content": [
            *({"type": "image", "image": Image.open(path)} for path in asked["pictures"]),
            {"type": "text", "text": asked["question"]},
        ]}]
        for asked in questions
    ]  # fmt: skip
    inputs = processor.apply_chat_template(
        chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs={"padding": True},
    )  # fmt: skip
    with torch.inference_mode():
        logits = model(**inputs).logits[:, -1]
    made = model.generate(**inputs, max_new_tokens=8)
    texts = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    Path(folder, "answers.json").write_text(json.dumps([text.strip() for text in texts]))
    torch.save(logits, folder + "/logits.pt")
assert not any(name.split(".")[0] == "granvit" for name in sys.modules)
