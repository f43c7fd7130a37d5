// Tokenizes texts, one at a time and uncut, by transformers.js with the files of a folder:
//     node tokenizer_client.mjs REQUEST.json    {"folder": DIR, "texts": [...]}
import fs from "node:fs";
import path from "node:path";
import { AutoTokenizer, env } from "@huggingface/transformers";

const { folder, texts } = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder) + "/";

const tokenizer = await AutoTokenizer.from_pretrained(path.basename(folder));
const ids = texts.map((text) => tokenizer(text, { return_tensor: false }).input_ids);
console.log(JSON.stringify(ids));
