import { mount } from 'svelte';
import App from './App.svelte';
import { view } from './state/view.svelte';
import './style.css';

view.applyTheme();
mount(App, { target: document.body });
