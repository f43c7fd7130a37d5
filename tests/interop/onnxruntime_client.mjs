// Runs both graphs of a bundle by onnxruntime-node on given tensors, each {"data": [...], "dims": [...]}:
//     node onnxruntime_client.mjs REQUEST.json    {"image": FILE, "text": FILE, "pixel_values", "input_ids", ...}
import fs from "node:fs";
import * as ort from "onnxruntime-node";

const request = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const { image, text, pixel_values, input_ids, attention_mask } = request;
const int64 = ({ data, dims }) => new ort.Tensor("int64", BigInt64Array.from(data.map(BigInt)), dims);
const rows = ({ data, dims }) =>
  Array.from({ length: dims[0] }, (_, i) => Array.from(data.slice(i * dims[1], (i + 1) * dims[1])));

const vision = await ort.InferenceSession.create(image);
const pixels = new ort.Tensor("float32", Float32Array.from(pixel_values.data), pixel_values.dims);
const { image_embeds } = await vision.run({ pixel_values: pixels });
const language = await ort.InferenceSession.create(text);
const { text_embeds } = await language.run({ input_ids: int64(input_ids), attention_mask: int64(attention_mask) });
console.log(JSON.stringify({ image_embeds: rows(image_embeds), text_embeds: rows(text_embeds) }));
