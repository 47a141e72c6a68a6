// The types of `src/api.ts` are those that the server describes: whoever changes one side is told of the other.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import ts from 'typescript';
import { Server } from './server.js';

const API = new URL('../src/api.ts', import.meta.url);
/** Interfaces whose schema has another name. */
const SCHEMAS = {
  Capabilities: 'ServerCapabilities',
  FoundSettings: 'Settings',
  ImageDetails: 'Details',
  StartImage: 'DraftStart',
  Upload: 'Stored',
};
const INTERFACES = [
  'Capabilities', 'Draft', 'Failure', 'FoundSettings', 'ImageDetails', 'ImageRecord', 'Job', 'JobSpec', 'Limits',
  'LoraChoice', 'LoraInfo', 'ModelInfo', 'Page', 'Progress', 'Size', 'StartImage', 'Upload',
];

let server;
let schemas;
let interfaces;

before(async () => {
  server = await Server.start();
  schemas = (await server.json('/openapi.json')).body.components.schemas;
  interfaces = fieldsByInterface(await readFile(API, 'utf8'));
});

after(() => server?.stop());

function fieldsByInterface(text) {
  const file = ts.createSourceFile('api.ts', text, ts.ScriptTarget.Latest);
  const found = new Map();
  for (const statement of file.statements) {
    if (!ts.isInterfaceDeclaration(statement)) continue;
    found.set(statement.name.text, statement.members.map((member) => member.name.getText(file)));
  }
  return found;
}

/** The names of a schema's fields, also of those that it is put together from. */
function fieldsOf(schema) {
  if (schema.$ref) return fieldsOf(schemas[schema.$ref.split('/').at(-1)]);
  const parts = [...(schema.allOf ?? [])].flatMap(fieldsOf);
  return [...Object.keys(schema.properties ?? {}), ...parts];
}

for (const name of INTERFACES) {
  test(`every field of ${name} is one of the server's`, () => {
    const schema = schemas[SCHEMAS[name] ?? name];
    assert.ok(schema, `${name} is not described; there are ${Object.keys(schemas)}`);
    const known = fieldsOf(schema);
    const unknown = interfaces.get(name).filter((field) => !known.includes(field));
    assert.deepEqual(unknown, []);
  });
}

test('the form can say everything that a request can', () => {
  const missing = fieldsOf(schemas.Draft).filter((field) => !interfaces.get('Draft').includes(field));
  assert.deepEqual(missing, []);
});
