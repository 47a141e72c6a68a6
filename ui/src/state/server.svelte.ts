import { api, Problem, type Capabilities, type Feature, type ModelInfo } from '../api';

/** What the server can do, and whether it is there. */
class Server {
  capabilities = $state.raw<Capabilities | null>(null);
  /** Why the capabilities could not be had. */
  problem = $state.raw<Problem | null>(null);
  connection = $state<'connecting' | 'open' | 'lost'>('connecting');

  async load(): Promise<boolean> {
    try {
      this.capabilities = await api.capabilities();
      this.problem = null;
      return true;
    } catch (error) {
      this.problem = error instanceof Problem ? error : new Problem('internal', 0, String(error));
      return false;
    }
  }

  has(feature: Feature): boolean {
    return this.capabilities?.features.includes(feature) ?? false;
  }

  /** The model of that name, else the default one. */
  model(name: string | null): ModelInfo | null {
    const models = this.capabilities?.models ?? [];
    return models.find((model) => model.name === name) ?? models[0] ?? null;
  }
}

export const server = new Server();
