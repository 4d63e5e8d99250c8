// OpenAI's client for JavaScript against the gateway: prints what its own parsing made of the answers, as JSON.
// node openai_client.mjs BASE_URL MODEL; the package is found from the working directory.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const found = createRequire(process.cwd() + "/").resolve("openai");
const { default: OpenAI } = await import(pathToFileURL(found).href);
const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "x", maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const said = {};

const chat = await client.chat.completions.create({ model, messages, max_tokens: 50 });
said.chat = chat.choices[0].message.content;

const stream = client.chat.completions.stream({ model, messages, max_tokens: 50, stream_options: { include_usage: true } });
const whole = await stream.finalChatCompletion();
said.stream = whole.choices[0].message.content;
said.tokens = whole.usage.completion_tokens;

const response = await client.responses.create({ model, input: "Hi", max_output_tokens: 50 });
said.response = response.output_text;

const events = client.responses.stream({ model, input: "Again", previous_response_id: response.id, max_output_tokens: 50 });
said.responseStream = (await events.finalResponse()).output_text;

try {
  await client.chat.completions.create({ model: "nobody", messages });
} catch (error) {
  said.error = [error.constructor.name, error.status, error.code, typeof error.requestID];
}
console.log(JSON.stringify(said));
