// A client whose types come from the service's OpenAPI document; `node out/client.js URL PHOTO` prints what it got.
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const [url, photo] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: url });
const image = new Blob([await readFile(photo)], { type: "image/jpeg" });

/** The multipart form of a body: openapi-typescript has strings in the place of files. */
function form(fields: Record<string, string | Blob | Blob[] | undefined>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of value === undefined ? [] : Array.isArray(value) ? value : [value]) data.append(name, one);
  }
  return data;
}

async function estimate(file: Blob, query: paths["/upload-meaa-image"]["post"]["parameters"]["query"] = {}) {
  return client.POST("/upload-meaa-image", {
    params: { query },
    body: { image: "" },
    bodySerializer: () => form({ image: file }),
  });
}

async function follow(files: Blob[], times: string, session?: string) {
  return client.POST("/upload-meaa-frames", {
    body: { image: [] },
    bodySerializer: () => form({ image: files, times, session }),
  });
}

/** What a message of a live session says: the compiler knows which members each kind of message has. */
export function told(message: Schemas["LiveReply"]): Schemas["Mood"] | Schemas["Problem"]["code"] | number {
  if ("summary" in message) return message.summary.moods.positive.share;
  return "problem" in message ? message.problem.code : message.mood;
}

export const messages: (Schemas["LiveEnd"] | Schemas["LiveResume"])[] = [
  { type: "end" },
  { type: "resume", session: "text" },
];

const one = await estimate(image);
const people = await estimate(image, { faces: "all", max_faces: 2 });
const hinted = await estimate(image, { box: "180,60,87,112" });
const broken = await estimate(new Blob(["no image"]));
const first = await follow([image, new Blob(["no image"]), image], "0,0.25,0.5");
const second = await follow([image], "0.75", first.data?.session);
const refused = await follow([image], "0.75", "damaged");

const frames = first.data?.frames.map((frame) => ("problem" in frame ? frame.problem.code : frame.estimate.face_id));
const probabilities: Schemas["Probabilities"] | undefined = one.data?.probabilities;
console.log(
  JSON.stringify({
    mood: one.data?.mood,
    positive: probabilities?.positive,
    reasons: one.data?.quality.reasons,
    people: people.data?.people?.map((person) => person.mood),
    hinted: hinted.data?.faces,
    broken: broken.error?.code,
    status: broken.response.status,
    frames,
    answered: second.data?.summary.answered,
    share: second.data?.summary.moods.positive.share,
    refused: refused.error?.code,
  }),
);
