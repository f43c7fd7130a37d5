// Embeds texts and images by transformers.js, with nothing but the bundle's own files:
//     node transformers_client.mjs REQUEST.json    {"bundle": DIR, "texts": [...], "images": [FILE, ...]}
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import {
  AutoProcessor, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection, RawImage, env,
} from "@huggingface/transformers";

const { bundle, texts, images } = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
env.allowRemoteModels = false;
env.localModelPath = path.dirname(bundle) + "/";
const name = path.basename(bundle);

const tokenizer = await AutoTokenizer.from_pretrained(name);
const textModel = await CLIPTextModelWithProjection.from_pretrained(name);
const processor = await AutoProcessor.from_pretrained(name);
const visionModel = await CLIPVisionModelWithProjection.from_pretrained(name);

const tokens = tokenizer(texts, { padding: true, truncation: true });
const { text_embeds } = await textModel(tokens);
const pixels = await processor(await Promise.all(images.map((file) => RawImage.read(pathToFileURL(file)))));
const { image_embeds } = await visionModel(pixels);
console.log(JSON.stringify({
  input_ids: tokens.input_ids.tolist().map((row) => row.map(Number)),
  text_embeds: text_embeds.tolist(),
  pixel_values: Array.from(pixels.pixel_values.data),
  image_embeds: image_embeds.tolist(),
}));
